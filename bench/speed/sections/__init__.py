"""What is measured, one module for each part of docs/performance.md."""
