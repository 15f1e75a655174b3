"""The network and what it is made of; knows neither data folders nor a trainer."""
