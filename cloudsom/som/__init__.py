"""The method: training a self-organizing map, the BMUs of spectra, and neuron labels, with or without sub-maps.

Comes in: scaled spectra (n, 13). Goes out: weights, BMUs, labels of neurons and through them of pixels.
"""
