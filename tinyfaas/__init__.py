"""tinyfaas: Functions-as-a-Service over MQTT, packaged as a Raspberry Pi appliance."""
