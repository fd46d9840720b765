"""What a run leaves for people: its log, files of lines, the bar."""
