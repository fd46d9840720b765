"""Sources made of other sources: one after the other, a share of one, the first rows of one, a transformed one."""
