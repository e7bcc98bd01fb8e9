"""What small encoders show: five studies on real tiles, from one configuration by one command."""
