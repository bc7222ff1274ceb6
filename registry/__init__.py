"""Releases, devices and rollouts: web API, artifact store, database and the cloud side of MQTT."""
