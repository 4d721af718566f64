"""From a scene's pixels to its mask: every spectrum through a labelled map.

Comes in: the spectra of a scene, a labelled map. Goes out: masks (height, width) of CLOUD, CLEAR and MASK_NODATA.
"""
