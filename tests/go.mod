module berth/tests

go 1.26.0
