// Package sinktest is the conformance suite of sinks: what package sink promises, claim by claim, against a
// real server. A sink passes when Run passes.
//
// The suite never looks inside a sink. It publishes through the interface, and asks the server what landed by
// Harness.Read, which is written with a plain client and shares no code with the sink.
//
// What a broker does not have (a missing destination, partitions) is a nil field of the Harness; its tests are then not run.
package sinktest
