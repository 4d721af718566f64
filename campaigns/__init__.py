"""Long campaigns, each a command of its own (python -m campaigns.NAME); CI runs short versions of them."""
