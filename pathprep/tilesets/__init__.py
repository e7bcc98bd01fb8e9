"""Labelled tile sets (PCam, NCT-CRC-HE-100K, MHIST, any folder) as datasets, as `pathprep shard` writes them.

Slides, shards and groups. A slide of a scanned archive is at once a file, a unit of work and a group of
tiles that look alike. In a tile set these part: a set without patients has no groups, and one with 20,000
groups of five tiles would give 20,000 tiny tars, which no file system or object store likes. So

- a shard, named ``<set>-00000`` or ``<set>-<split>-00000``, is a unit of storage and of work, of at most so
  many tiles, and stands where a slide stands: shards/, index/, slides/;
- the index' column ``group`` says which tiles are alike (the slide of PCam, the patient). pathtrain takes it
  where it takes the slide of scanned ones: leave one group out, no group in training and test, collapse.
  A tile without a group is its own;
- a group is never divided between shards that hold anything else: it lies in one shard, or, if it is larger
  than a shard, alone in several. So training and test may be split by files too, without a leak, as people
  do with WebDataset. Partitions (train, test) never share a shard either;
- which groups meet in a shard is chosen by a hash of their names, and so is the order of images in it: a
  folder sorted by class would give shards of one class, and batches of one class to whoever reads in order.
  HDF5 files are read row by row as they are stored; without groups their rows keep their order, because
  such files are shuffled when they are published.

The pooled stain fit, which a tile takes that has none of its own, is that of its group: like a slide's
tiles, they were stained together. Where a tile has no group, or none in it could be fitted, it is that of
the shard: the usual stain of a mixture from the whole set, better than none, but not that tile's own.
"""
