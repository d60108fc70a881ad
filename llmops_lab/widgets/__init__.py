"""The views of a notebook: what ``api/views`` answers, shown by anywidget where somebody watches and as a table elsewhere."""
