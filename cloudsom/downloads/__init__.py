"""Downloads: one transfer engine, and one room for each kind of server it talks to.

client     one request: encrypted, bounded in time, retried politely, silent about credentials
transfer   one file: resumed, checked, and under its name only when it is right
engine     many files at once, product by product; interrupted and resumed
names      product names, old and new
records    what is on disk already, and what was recorded about it
archives   archives and zipped products from elsewhere, opened with suspicion
display    progress on a terminal or in a log file
zenodo, gcs, cdse, dhus    where the files are, as each server says it
spectra    the spectra database's files
"""
