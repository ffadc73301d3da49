"""Pictures that requests start from: where they come from, what they may be, and how they are stored."""
