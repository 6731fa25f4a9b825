/* A race on purpose: were ThreadSanitizer not at work, or what it finds not a failure, this would end
 * well. */
#include <pthread.h>
#include <stddef.h>

static unsigned long n;

static void *count(void *unused)
{
	for (int i = 0; i < 100000; i++)
		n++;
	return unused;
}

int main(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, count, NULL) != 0)
		return 0;
	(void)count(NULL);
	(void)pthread_join(thread, NULL);
	return 0;
}
