/* What host.c is linked with; at run time each case brings its own. */
void answer(const char *cmd) { (void)cmd; }
