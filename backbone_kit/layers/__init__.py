"""Layers by name: convolutions, norms, activations, paddings, plugins. One family per file, found by itself."""

import importlib
import pkgutil

from .activation import ACTIVATION_LAYERS, ActivationCfg, build_activation_layer
from .adaptive_padding import Conv2dAdaptivePadding
from .cbam import CBAM
from .context_block import ContextBlock
from .conv import CONV_LAYERS, ConvCfg, build_conv_layer
from .conv_module import ConvModule
from .conv_norm import fold_norms
from .conv_ws import ConvAWS2d, ConvWS2d, StdConv2d
from .dcn import DCN, DCNv2
from .deform_conv import deform_conv2d
from .depthwise_separable import DepthwiseSeparableConvModule
from .drop_block import DropBlock
from .drop_path import DropPath
from .eca import ECA
from .frozen_batch_norm import FrozenBatchNorm2d, freeze_batch_norms, thaw_batch_norms
from .fuse_conv_bn import fuse_conv_bn
from .generalized_attention import GeneralizedAttention
from .ghost import GhostModule
from .grn import GRN
from .layer_norm import LayerNorm2d
from .non_local import NonLocal2d
from .norm import NORM_LAYERS, NormCfg, build_norm_layer
from .norm_act import EvoNormS0, FilterResponseNorm2d
from .onnx_deform_conv import onnx_deform_conv
from .padding import PADDING_LAYERS, PaddingCfg, build_padding_layer
from .plugin import PLUGIN_LAYERS, PluginCfg, build_plugin_layer
from .rectified_conv import RFConv2d
from .rms_norm import RMSNorm2d, SimpleNorm2d
from .se_layer import SELayer
from .selective_kernel import SelectiveKernel
from .split_attention import RSoftmax, SplitAttentionConv2d
from .switchable_conv import SAConv2d
from .weight_init import INITIALIZERS, initialize

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "ACTIVATION_LAYERS",
    "CBAM",
    "CONV_LAYERS",
    "DCN",
    "ECA",
    "GRN",
    "INITIALIZERS",
    "NORM_LAYERS",
    "PADDING_LAYERS",
    "PLUGIN_LAYERS",
    "ActivationCfg",
    "ContextBlock",
    "Conv2dAdaptivePadding",
    "ConvAWS2d",
    "ConvCfg",
    "ConvModule",
    "ConvWS2d",
    "DCNv2",
    "DepthwiseSeparableConvModule",
    "DropBlock",
    "DropPath",
    "EvoNormS0",
    "FilterResponseNorm2d",
    "FrozenBatchNorm2d",
    "GeneralizedAttention",
    "GhostModule",
    "LayerNorm2d",
    "NonLocal2d",
    "NormCfg",
    "PaddingCfg",
    "PluginCfg",
    "RFConv2d",
    "RMSNorm2d",
    "RSoftmax",
    "SAConv2d",
    "SELayer",
    "SelectiveKernel",
    "SimpleNorm2d",
    "SplitAttentionConv2d",
    "StdConv2d",
    "build_activation_layer",
    "build_conv_layer",
    "build_norm_layer",
    "build_padding_layer",
    "build_plugin_layer",
    "deform_conv2d",
    "fold_norms",
    "freeze_batch_norms",
    "fuse_conv_bn",
    "initialize",
    "onnx_deform_conv",
    "thaw_batch_norms",
]
