"""A chatbot with a web page, on Homing. See docs/chatbot.md."""
