"""Classical registration: what a tool gets and gives, tools, fiducials, harmonizing. Imports clinic and below."""
