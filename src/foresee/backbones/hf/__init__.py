"""Checkpoints of the transformers library as backbones."""

from foresee.backbones.hf.backbone import HuggingFace

__all__ = ["HuggingFace"]
