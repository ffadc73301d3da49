"""`darkroom mcp`: Darkroom as tools for language models (Model Context Protocol)."""
