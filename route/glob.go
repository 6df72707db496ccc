package route

// match tells whether the glob covers the whole text: "*" is any run of bytes, "?" any one byte. An empty glob covers everything.
func match(glob, text string) bool {
	if glob == "" {
		return true
	}
	g, t := 0, 0
	star, retry := -1, 0 // the last star, and where its run ends at the next try
	for t < len(text) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, retry = g, t
			g++
		case g < len(glob) && (glob[g] == '?' || glob[g] == text[t]):
			g++
			t++
		case star >= 0:
			retry++
			g, t = star+1, retry
		default:
			return false
		}
	}
	for g < len(glob) && glob[g] == '*' {
		g++
	}
	return g == len(glob)
}

// coversAll tells whether the glob covers every text.
func coversAll(glob string) bool {
	for i := range len(glob) {
		if glob[i] != '*' {
			return false
		}
	}
	return true
}
