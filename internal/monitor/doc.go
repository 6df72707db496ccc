// Package monitor watches a relay: at every interval it compares what the relay says of itself with what it said before, writes one line to the
// log, and names what holds delivery up, with a severity and advice.
//
// It asks nobody but the relay, whose numbers come from memory and from the relay's own measurement of the server's views (one statement an
// interval); the outbox table is never counted. What is found is logged as an error when it is, or becomes, high or critical, and once more
// when it is over; not at every look. [Analyse] is pure.
package monitor
