"""Sentinel-2 products and rasters: SAFE to GeoTIFF, 13-band scenes, masks and references, and what is marked on them.

Comes in: SAFE products, GeoTIFFs, vector files. Goes out: reflectance (n, 13) a block at a time, masks (height, width).
"""
