from .small_images import SmallImages

__all__ = ['SmallImages']
