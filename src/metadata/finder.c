/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks names up for those who must not block: a thread that is started by the first question. While one question waits
 * for a store that does not answer, others queue up; its failure is theirs too, so that nobody waits longer than for
 * two questions.
 */
#include <metadata/directory.h>
#include <stdio.h>
#include <stdlib.h>

struct question {
	struct cw__list node;
	char name[256];
	cw__found_fn answer;
	void *arg;
};

static void answer(struct question *question, int status, const char *text, struct cw__found *found)
{
	question->answer(question->arg, status, text, found);
	free(question);
}

static void answer_all(struct cw__list *questions, int status, const char *text)
{
	while (!cw__list_empty(questions))
		answer(cw__container(cw__list_pop(questions), struct question, node), status, text, NULL);
}

static void *finder_main(void *arg)
{
	struct cw__directory *directory = arg;
	struct cw__list others;

	cw__list_init(&others);
	pthread_mutex_lock(&directory->lock);
	while (!directory->stopping) {
		struct cw__list *node = cw__list_pop(&directory->questions);
		struct cw__found found;
		struct question *question;
		char text[240] = "";
		int status;

		if (!node) {
			cw__directory_wait(directory, &directory->work, CW_FOREVER);
			continue;
		}
		pthread_mutex_unlock(&directory->lock);
		question = cw__container(node, struct question, node);
		status = cw__directory_find(directory, question->name, directory->timeout, &found);
		if (status)
			snprintf(text, sizeof(text), "%s", cw_last_error());
		answer(question, status, text, &found);
		pthread_mutex_lock(&directory->lock);
		if (!cw__directory_is_down(status))
			continue;
		cw__list_splice(&others, &directory->questions);
		pthread_mutex_unlock(&directory->lock);
		answer_all(&others, status, text);
		pthread_mutex_lock(&directory->lock);
	}
	cw__list_splice(&others, &directory->questions);
	pthread_mutex_unlock(&directory->lock);
	answer_all(&others, CW_ERR_CLOSED, "the engine is being closed");
	return NULL;
}

int cw__finder_ask(struct cw__directory *directory, const char *name, cw__found_fn fn, void *arg)
{
	struct question *question;
	int status = CW_OK;

	if (directory->ops->addresses)
		return CW_ERR_UNSUPPORTED;
	question = calloc(1, sizeof(*question));
	if (!question)
		return CW_ERR_NO_MEMORY;
	snprintf(question->name, sizeof(question->name), "%s", name);
	question->answer = fn;
	question->arg = arg;
	pthread_mutex_lock(&directory->lock);
	if (directory->stopping)
		status = CW_ERR_CLOSED;
	else if (!directory->has_finder)
		status = cw__directory_thread(&directory->finder, finder_main, directory);
	if (!status) {
		directory->has_finder = 1;
		cw__list_push_back(&directory->questions, &question->node);
		pthread_cond_broadcast(&directory->work);
	}
	pthread_mutex_unlock(&directory->lock);
	if (status)
		free(question);
	return status;
}
