"""Video files: what they are, their frames, and the writing of new ones. The only place that imports PyAV."""
