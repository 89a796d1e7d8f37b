# Evolution in a supernet half of whose steps train random structures, as one-shot searches do.
_base_ = './search_evolution.py'

train_cfg = dict(sampled=0.5, strategy=dict(order='index'))
