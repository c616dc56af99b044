package dirstore

// Kind tells what is known of a file system by its number in statfs(2).
var Kind = kind
