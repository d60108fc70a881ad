"""Jobs: papermill templates that run on a kernel, and the truth about how they ended."""
