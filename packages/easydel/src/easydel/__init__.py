"""EasyData and the EasyDeL trainers in one install, with the command line `easydel`."""
