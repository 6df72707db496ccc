// Package route says which destinations an event has: globs over tenant and topic, the first rule that matches wins, and a
// destination's name is made of a template. It is pure: the standard library only, no I/O.
//
// # Templates
//
// {tenant}, {topic} and {aggregate_type} stand for the event's values; "{{" and "}}" are braces. Values are put in as they are or
// rejected, never rewritten. A value is rejected when it would leave its place:
//
//   - it is empty or NULL, or holds control characters, or braces;
//   - it holds the text that follows its placeholder: in "outbox:{tenant}:{topic}" a tenant "a:b" could not be told from tenant "a". With that,
//     two events with different values never share a name made of one template;
//   - the broker's own rules forbid it: on Pulsar a slash or white space anywhere, in a tenant or namespace all but letters, digits and
//     "-=:._", and a topic that looks like a partition of another ("-partition-3" at its end).
//
// # What happens on a failure
//
// New reports every fault of the rules at once, each with the route's number and the mend. Route returns [ErrUnrouted] or a [NameError];
// what becomes of the event is the caller's decision.
package route
