"""Text from a server or a model, made safe to display: control characters, lone surrogates, Markdown.

Everything else may import this; it imports nothing of Homing.
"""
