"""What every engine must do, as cases that any engine can be put through, on any machine."""
