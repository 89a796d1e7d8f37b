from .small_images import SmallImages
from .text import PackedText

__all__ = ['PackedText', 'SmallImages']
