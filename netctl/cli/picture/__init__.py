"""Pictures of an intent: one graph (network.py), drawn as SVG, Mermaid, DOT, or in a terminal.

Pure: the same intent gives the same picture, byte for byte. Everything that the grammar knows can be
drawn, also what no lab can run yet.
"""
