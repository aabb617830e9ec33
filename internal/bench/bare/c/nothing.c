// The least that a process can do: the reference for the start of one.
int main(void) { return 0; }
