"""Shrunk files in use: expanded, or decoded part by part while a module runs."""
