"""Where the videos are: folders, lists, globs and buckets, as rows of VIDEOS."""

from vidray.sources.listing import list_videos

__all__ = ["list_videos"]
