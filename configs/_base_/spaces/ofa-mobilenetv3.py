# Like Once-for-All (Cai et al., ICLR 2020): two to four blocks in each of five stages, and in each block an expansion
# of three to six times its input's channels, by whole times. Kernels have one size, that of the supernet: a mask makes
# a layer narrower or drops a block, it does not change a kernel. The first block of a stage always stays, and so do
# the widths between blocks and of squeeze and excitation.
inputs = {2: 16, 3: 24, 4: 24, 5: 24, 6: 24, 7: 40, 8: 40, 9: 40, 10: 40, 11: 80, 12: 80, 13: 80, 14: 80}
inputs.update({15: 112, 16: 112, 17: 112, 18: 112, 19: 160, 20: 160, 21: 160})
space = dict(
    units={
        **{f'*.layer{k}.expand_conv.conv': dict(min=3 * c, round_to=c) for k, c in inputs.items()},
        '*.layer0.conv': dict(ignore=True),
        '*.layer22.conv': dict(ignore=True),
        '*.linear_conv.conv': dict(ignore=True),
        '*.se.conv1.conv': dict(ignore=True),
        'head.*': dict(ignore=True),
        'backbone/depth0': dict(ignore=True),
        'backbone/depth[1-5]': dict(min=1),
    }
)
del inputs
