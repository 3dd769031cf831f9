"""Figures as SVG and PNG: canvas.py draws lines, dots and words, panel.py axes, places.py rates against places."""
