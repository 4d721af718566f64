"""The 13 bands of Sentinel-2 L1C, the six classes of the spectra database, and the codes on disk."""

#: Column names of every table, in the order of the spectra database (paper, section 2.1): B8a stands at index 8.
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8a", "B9", "B10", "B11", "B12")

#: The same bands as products and GeoTIFF band descriptions spell them.
SAFE_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")

N_BANDS = len(BANDS)

#: Central wavelength of each band in nm (Sentinel-2A; Sentinel-2B differs by at most 4 nm below 1 um, 17 nm above).
WAVELENGTHS_NM = (442.7, 492.4, 559.8, 664.6, 704.1, 740.5, 782.8, 832.8, 864.7, 945.1, 1373.5, 1613.7, 2202.4)

#: Class ids of the spectra database and the names the paper's figures give them.
CLASSES = {10: "land", 20: "water", 30: "shadow", 40: "cirrus", 50: "opaque cloud", 60: "snow"}

#: The database's own names ("Clear" is clear land, "Cloud" is opaque cloud), as stored in `class_names`.
DATABASE_CLASSES = {"Clear": 10, "Water": 20, "Shadow": 30, "Cirrus": 40, "Cloud": 50, "Snow": 60}

#: The classes that are cloud; every other class is clear (paper, section 2.2).
CLOUD_CLASSES = (40, 50)

#: The paper's class colours, decoded from its figures (RGB hexadecimal).
CLASS_COLOURS = {
    10: "#0066CC",
    20: "#305496",
    30: "#5B9BD5",
    40: "#009999",
    50: "#006666",
    60: "#9BC2E6",
}

#: What no reflectance comes to, as a fraction: an L1C product can hold 6.6, the published spectra reach 2.8. Digital
#: numbers, per cent and sentinels such as -9999 do.
BEYOND_REFLECTANCE = 10.0

# Codes of a mask (uint8). 255 and 0 are the paper's; nodata is ours, because the published code gave pixels
# outside the swath the same code as clear ones.
CLOUD = 255
CLEAR = 0
MASK_NODATA = 1

#: Code of a class map's nodata, and of a neuron no training spectrum fell on.
NO_CLASS = 0
