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
SPLITS = {"split", "split_with_sizes", "chunk"}
JOINS = {"cat", "stack"}
KEEPS = {"_to_copy", "dropout", "native_dropout", "bernoulli", "_conj", "zeros_like", "ones_like",
         "full_like", "empty_like", "rand_like", "randn_like", "log_sigmoid_forward",
         "rrelu_with_noise"}  # fmt: skip
MEANS = {"mean", "sum", "amax", "amin", "max", "min", "var", "std", "norm", "linalg_vector_norm",
         "prod", "logsumexp", "var_mean", "std_mean"}  # fmt: skip
# Pooling, padding and resampling, by the number of last axes that they run over.
POOLED_AXES = {
    1: {
        "avg_pool1d", "adaptive_avg_pool1d", "max_pool1d", "adaptive_max_pool1d",
        "reflection_pad1d", "replication_pad1d", "upsample_linear1d", "upsample_nearest1d",
        "_upsample_nearest_exact1d",
    },
    2: {
        "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d",
        "adaptive_avg_pool2d", "max_pool2d", "mkldnn_max_pool2d", "fractional_max_pool2d",
        "max_unpool2d", "reflection_pad2d", "replication_pad2d", "upsample_nearest2d",
        "upsample_bilinear2d",
        "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
        "_upsample_nearest_exact2d",
    },
    3: {
        "max_pool3d_with_indices", "avg_pool3d", "_adaptive_avg_pool3d", "adaptive_max_pool3d",
        "fractional_max_pool3d", "max_unpool3d", "reflection_pad3d", "replication_pad3d",
        "upsample_nearest3d", "upsample_trilinear3d", "_upsample_nearest_exact3d",
    },
}  # fmt: skip
AXES_OF = {name: axes for axes, names in POOLED_AXES.items() for name in names}
SAMPLES = {"grid_sampler_2d", "grid_sampler_3d", "roi_align", "roi_pool"}
PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}  # operands before the two factors
BATCH_NORMS = {"native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "batch_norm"}
CONVOLVES = {"convolution", "mkldnn_convolution", "cudnn_convolution"}
ATTENTION = "_scaled_dot_product"  # how operators begin that do all of it
NORMALISES = {"_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax"}
# Attributes of a module from which its forward may read the size of a stream.
WIDTHS = ("channels", "d_model", "dim", "embed_dim", "features", "hidden_dim", "hidden_size",
          "width")  # fmt: skip
# torch forgot the tag
POINTWISE = {"_prelu_kernel", "hardswish", "hardsigmoid", "masked_fill"}
