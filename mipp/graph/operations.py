"""What each ATen operation does to channel labels, by name."""

from __future__ import annotations

MOVES = {
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "slice", "select",
    "split", "split_with_sizes", "unbind", "unsqueeze", "squeeze", "clone", "alias", "detach",
    "contiguous", "roll", "flip", "narrow", "as_strided", "repeat", "unfold", "lift_fresh",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "tile", "chunk", "index", "index_select",
    "gather", "diagonal", "rot90", "movedim", "_reshape_alias", "native_channel_shuffle",
}  # fmt: skip
VIEWS = {"view", "_unsafe_view", "reshape", "_reshape_alias"}
JOINS = {"cat", "stack"}
KEEPS = {"_to_copy", "dropout", "native_dropout", "bernoulli", "_conj"}
MEANS = {"mean", "sum", "amax", "amin", "max", "min", "var", "std", "norm", "linalg_vector_norm",
         "prod", "logsumexp"}  # fmt: skip
POOLS = {
    "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d",
    "upsample_nearest2d",
    "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "reflection_pad2d",
    "replication_pad2d", "adaptive_avg_pool2d", "max_pool2d", "mkldnn_max_pool2d",
    "_upsample_nearest_exact2d",
}  # fmt: skip
POOLED_AXES = {"avg_pool1d": 1, "adaptive_avg_pool1d": 1, "max_pool3d_with_indices": 3,
               "avg_pool3d": 3, "_adaptive_avg_pool3d": 3} | dict.fromkeys(POOLS, 2)  # fmt: skip
NORMALISES = {"_softmax", "_log_softmax", "softmax", "log_softmax"}
# Attributes of a module from which its forward may read the size of a stream.
WIDTHS = ("channels", "d_model", "dim", "embed_dim", "features", "hidden_dim", "hidden_size",
          "width")  # fmt: skip
# torch forgot the tag
POINTWISE = {"_prelu_kernel", "hardswish", "hardsigmoid", "masked_fill", "rrelu_with_noise"}
