"""Many random networks, each proved, verified, counted and left as it was: what differs, fails, or costs search space.

    python benchmarks/random_graphs.py [--start 2000] [--count 2000]

One process, one core. Prints a line for each network that no rule foresaw or that fails, and a summary.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tests'))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--start', type=int, default=2000, help='first seed')
    parser.add_argument('--count', type=int, default=2000, help='how many')
    options = parser.parse_args()
    import torch

    from builders.random_check import checked
    from builders.random_graphs import RandomNet

    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    done, failed, unforeseen = [], 0, 0
    kinds: collections.Counter = collections.Counter()
    start = time.process_time()
    for seed in range(options.start, options.start + options.count):
        try:
            network = checked(seed)
        except Exception as error:
            failed += 1
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind, steps = type(error).__name__, ', '.join(RandomNet(seed).kinds)
            print(f'{seed} FAILS: {kind}: {str(error)[:600]} at {place.filename}:{place.lineno} [{steps}]', flush=True)
            continue
        done.append(network)
        kinds.update(network.kinds)
        unforeseen += bool(network.unforeseen)
        for note in network.unforeseen:
            print(f'{seed} unforeseen: {note} [{", ".join(network.kinds)}]', flush=True)
        if network.seconds > 20:
            print(f'{seed} slow: {network.seconds:.0f} s [{", ".join(network.kinds)}]', flush=True)
        if (seed + 1) % 100 == 0:
            print(f'-- up to {seed}: {failed} failed, {unforeseen} unforeseen', flush=True)
    searched = [x for x in done if x.units]
    print(f'{options.count} networks from {options.start} on, in {time.process_time() - start:.0f} CPU s')
    print(f'{failed} failed; in {unforeseen} the proof by numbers froze what no rule foresaw')
    print(f'{len(searched)} have something to search, {sum(x.units for x in searched)} units')
    print(f'mean searchable share of MACs by widths {sum(x.share for x in done) / max(1, len(done)):.3f}')
    print('steps:', ', '.join(f'{name} {n}' for name, n in sorted(kinds.items())))


if __name__ == '__main__':
    main()
