module github.com/polyvisor/polyvisor

go 1.25.0
