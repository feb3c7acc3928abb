"""Reading video files: frames and their times, sound, sampling, quality, clips."""
