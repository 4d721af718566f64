"""How a script runs: its constants and command line, one run at a time, stop requests, many products side by side.

`settings` runs a script's `main`; `job` is one product's work, which `pool` gives to processes of this machine or
`cluster` to a Dask cluster.
"""
