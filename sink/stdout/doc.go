// Package stdout is the sink that writes messages as JSON lines, for trying things out and for pipes.
//
// One message is one object on one line: its destination, its key, its headers in their order, and its body, which is
// embedded when it is JSON and else a JSON string:
//
//	{"destination":"acme/order.created","key":"acme/order/4711","headers":{"id":"…","position":"…"},"body":{"total":12.5}}
//
// # Guarantees
//
//   - A line is written whole: concurrent calls of Publish take turns.
//   - Order, and the prefix rule of package sink.
//
// # Not guaranteed
//
// A pipe cannot be read back, so Tail returns nothing and delivery is at least once: what was written before a crash and not
// confirmed is written again. nil from Publish means that the operating system has taken the bytes, not that anybody read them.
// Bytes that are not UTF-8 become U+FFFD. Of headers with the same name JSON readers usually keep the last.
//
// # Failures
//
// A write that fails (the reader of the pipe is gone, the disk is full) is sink.Unavailable with an unknown fate for the
// messages that were not written whole. A write that blocks, because nobody reads, ends when ctx does; the message that it was
// writing is finished in the background, and further calls are refused until it is.
package stdout
