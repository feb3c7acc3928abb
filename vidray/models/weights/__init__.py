"""The one reader of weights: whatever file people have, into the network they named.

- ``files``: a file to tensors, nothing executed.
- ``wrappers``: what a training wraps around them.
- ``origins``: whose names they have, as one table.
- ``fitting``: the origin found, the network filled, one line that says what was taken.
- ``published``: what ``default`` means for each architecture.
- ``hub``: models of transformers, from the hub or from a folder.
- ``reader``: from a file, a model folder or a folder of transformers to all of that.
"""
