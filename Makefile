# What a developer types most. CI runs .ci/run, which does all of it and more.

.PHONY: all test race lint fmt bench fuzz faults cross

all: lint race

test:
	go test ./...

race:
	go test -race -count=1 ./...

lint:
	go vet ./...
	golangci-lint run

fmt:
	golangci-lint fmt

bench:
	go test -run '^$$' -bench . ./...

fuzz:
	go test -run '^$$' -fuzz FuzzParseMember -fuzztime 1m .
	go test -run '^$$' -fuzz FuzzForeignWrites -fuzztime 1m ./simulation

faults:
	go test -tags faults -timeout 30m -v ./faults

cross:
	.ci/cross
