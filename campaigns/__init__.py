"""Long trials of what must hold under any fault; each is a command of its own, its short form is in the tests."""
