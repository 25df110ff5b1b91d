#include <stdlib.h>

void planted(void *p, int a)
{
	free(p);
	if (a)
		free(p);
}
