"""Still images and animations: what they are, what becomes of them, and their pixels in and out.

The only place that imports pyvips and Pillow.
"""
