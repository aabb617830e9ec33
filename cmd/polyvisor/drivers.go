package main

// The drivers that the command serves.
import _ "github.com/polyvisor/polyvisor/drivers/all"
